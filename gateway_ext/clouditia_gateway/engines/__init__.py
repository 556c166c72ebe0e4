"""Where kernel hosts run: this machine first, others by the same three calls."""
