"""One file a member: imports, literals, constructor calls and `replace`, nothing else."""
