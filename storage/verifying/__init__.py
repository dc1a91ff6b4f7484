"""The rooms of `storage.verify`: how a file is opened, what it must look like, and what is checked beside the walk."""
