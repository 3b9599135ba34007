"""Reading scripts and command lines without running them."""
