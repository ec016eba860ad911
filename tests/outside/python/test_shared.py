"""CPython's own tests of multiprocessing, with the start method $START. Some installations lack the modules that do this."""
import os

from test import _test_multiprocessing

_test_multiprocessing.install_tests_in_module_dict(globals(), os.environ["START"])
