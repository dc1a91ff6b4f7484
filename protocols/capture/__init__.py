"""What a capture holds below the dialects: link layers, IP, its fragments, UDP, and TCP streams put together again.

Pure, as all of `protocols`: frames in, values out. Reading the file itself is for the caller.
"""
