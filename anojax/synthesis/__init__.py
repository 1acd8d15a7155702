"""From a request to a data set of synthetic defects: checked, written, verified."""
