"""The methods of the survey: one file each, the file name is the registry name."""
