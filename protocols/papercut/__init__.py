"""PaperCut NG/MF's public Web Services API as a client speaks it: calls and answers, job details, card numbers, times.

Left out: the embedded device RPC on port 9193, which is proprietary and not documented.
"""
