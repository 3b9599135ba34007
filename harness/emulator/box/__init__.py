"""The rented box: a directory, a container around it where the kernel permits one, and an SSH server in front."""
