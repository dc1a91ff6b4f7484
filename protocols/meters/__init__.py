"""What the page counters of a copier mean: the table of vendors (`meters.toml`), and how its answers are read by it."""
