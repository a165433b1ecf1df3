"""`python -m bayesgen`, the command; `torchrun -m bayesgen` starts it in several processes."""

from bayesgen.cli import main

if __name__ == "__main__":
    main()
