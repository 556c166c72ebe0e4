"""The audit log: who did what to keys and kernels, and what was refused."""
