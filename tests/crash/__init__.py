"""Death of the process, of the disk and of the power, and what is still there afterwards."""
