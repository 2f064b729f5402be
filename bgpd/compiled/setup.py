"""What setuptools is asked to build: ``python -m bgpd.compiled.setup DIRECTORY-FOR-C build_ext …``."""

import sys

from bgpd.compiled import GROUP, modules, source_of

if __name__ == "__main__":
    from mypyc.build import mypycify
    from setuptools import setup

    directory = sys.argv.pop(1)
    sources = [str(source_of(module)) for module in modules()]
    options = ["--config-file=", "--follow-imports=silent", "--ignore-missing-imports"]
    extensions = mypycify(
        [*options, *sources], opt_level="1", debug_level="0", group_name=GROUP, target_dir=directory
    )
    setup(name=GROUP, packages=[], ext_modules=extensions)
