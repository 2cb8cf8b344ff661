"""All benchmarks: `make bench`."""

from benchmarks import burgers, kernels

if __name__ == "__main__":
    kernels.main()
    burgers.main()
