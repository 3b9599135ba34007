"""Gates: which checks a stage demands, the facts they judge, and the verdict with its evidence."""
