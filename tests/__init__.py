"""The tests of the four packages. Ends that are not ours to test live in `peers`."""
