"""The panel: scan and lesion, model, run, and the comparison of a result with its scan."""
