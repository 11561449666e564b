import os

# Test processes run side by side, one a core: none may take all cores for one product of matrices.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
