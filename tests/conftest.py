"""Helper modules of the tests lie beside this file; its presence puts the folder on the import path."""
