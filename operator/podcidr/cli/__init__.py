"""What people run: show, check, plan."""
