"""Put the bundle first on ``sys.path``. Configurations import this module before ``scripts``.

A user's working folder may contain another package ``scripts``. ``python -m`` looks for modules in the working
directory first and in the bundle second; importing this module reverses that order. It lies next to ``scripts``, not in
it, and has a name that nobody else uses, so that Python cannot confuse it with another module.
"""

import logging
import os
import sys

_ROOT = os.path.dirname(os.path.abspath(__file__))  # not resolved: the files may be links into a store of blobs
_PACKAGE = "scripts"


def prefer_own_package() -> None:
    """Put the bundle first on ``sys.path``, and forget another ``scripts`` that was imported before, with a warning.

    Objects that were imported from the other package keep working. Later imports of ``scripts`` find the bundle's.
    """
    sys.path.insert(0, _ROOT)
    other = sys.modules.get(_PACKAGE)
    own = os.path.join(_ROOT, _PACKAGE)
    places = [*(getattr(other, "__path__", None) or [os.path.dirname(getattr(other, "__file__", None) or "")])]
    if other is None or os.path.realpath(places[0]) == os.path.realpath(own):
        return
    for name in [name for name in sys.modules if name.split(".")[0] == _PACKAGE]:
        del sys.modules[name]
    logging.getLogger(__name__).warning(
        "The package scripts of %s is replaced by that of the bundle. Restart Python to import the other one.",
        places[0] or "another project",
    )


prefer_own_package()
