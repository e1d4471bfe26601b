"""After the last step: a filled DICOM series is written as a derived series that says that it is synthetic."""
