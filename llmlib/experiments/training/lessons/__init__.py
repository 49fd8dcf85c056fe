"""What the processes of a notebook on parallelism do, for `launch` to find."""
