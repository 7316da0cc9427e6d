"""What is measured. To add a scenario: a module with a `prepare`, and a row in `catalogue`."""
