"""Will the tip of a taxi trip be 20 % of the fare or more?"""
