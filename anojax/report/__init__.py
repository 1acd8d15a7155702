"""What people look at: the contact sheet and the HTML report."""
