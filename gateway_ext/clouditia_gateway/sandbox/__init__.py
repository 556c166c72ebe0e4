"""What this machine could keep kernels apart with, tried for real; none of it is used yet."""
