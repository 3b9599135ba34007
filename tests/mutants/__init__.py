"""Small seeded changes of the code on which money and models depend, each of which the tests must notice."""
