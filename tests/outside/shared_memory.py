"""CPython's own tests of multiprocessing.shared_memory, on the folder $SHM_FOLDER."""
import os
import unittest
from multiprocessing.shared_memory import SharedMemory
from test import _test_multiprocessing

if __name__ == "__main__":
    probe = SharedMemory(create=True, size=1)
    assert probe.name in os.listdir(os.environ["SHM_FOLDER"]), "sitecustomize.py was not read"
    probe.close()
    probe.unlink()
_test_multiprocessing.install_tests_in_module_dict(globals(), "spawn")
if __name__ == "__main__":
    unittest.main()
