"""Files that outlive a run: run files and checkpoints. Only this package imports h5py."""

import os

# Read by HDF5 when a file is opened: it locks nothing. File systems without locks must not stop
# anyone from reading, and who writes a run file is settled by `store.claim`.
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
