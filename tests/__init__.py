"""The tests. A package, so that no ``tests`` package of a dependency in site-packages can stand in for it."""
