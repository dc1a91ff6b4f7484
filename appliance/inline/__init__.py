"""Standing in line: which traffic is Locum's, and how the kernel is told to bring it here and to pass all else."""
