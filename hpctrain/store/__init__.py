"""Files that outlive a run: the run file and the checkpoints. Only this package imports h5py."""

import os

# Read by HDF5 when a file is opened: file systems without locks must not stop anyone from reading.
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "BEST_EFFORT")
