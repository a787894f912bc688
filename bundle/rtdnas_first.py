"""Configurations import this before ``scripts``: a folder in which a user works may hold a ``scripts`` of its own.

``python -m`` looks for modules in the working directory first, then in the bundle. Importing this reverses the order.
It has a name that nobody else uses, and stands beside ``scripts``, for the same reason.
"""

import logging
import os
import sys

_ROOT = os.path.dirname(os.path.abspath(__file__))  # not resolved: the files may be links into a store of blobs
_PACKAGE = "scripts"


def prefer_own_package() -> None:
    """Put the bundle first on ``sys.path``, and let go of another ``scripts`` that was imported before, with a warning.

    Objects that were imported from the other package keep working; only its next import would find ours.
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
        "The package scripts of %s makes way for that of the bundle. Start Python again to import it again.",
        places[0] or "another project",
    )


prefer_own_package()
