"""Load the model, then listen; a model that cannot be loaded ends the program with status 1."""

import importlib
import os
import sys

# Python put this folder first on the path, where its modules would hide those that a model asks for. The
# package is imported by its name instead, and the path is then as an image's own program would find it.
_here = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != _here]
sys.path.append(os.path.dirname(_here))
_program = importlib.import_module(os.path.basename(_here) + ".program")
sys.path.pop()

if __name__ == "__main__":
    sys.exit(_program.main(sys.argv[1:]))
