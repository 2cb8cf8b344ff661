"""Runs the benchmarks of `make bench`, one after the other."""

from benchmarks import burgers, kernels

if __name__ == "__main__":
    kernels.main()
    burgers.main()
