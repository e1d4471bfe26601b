"""Before step 1 and after the last: scan and mask are read and checked, results are written."""
