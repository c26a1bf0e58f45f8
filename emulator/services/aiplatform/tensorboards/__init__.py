"""TensorBoards: experiments, runs, time series, and the points in these."""
