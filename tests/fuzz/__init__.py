"""Every decoder under bytes that nobody meant: atheris looks for those that raise anything else."""
