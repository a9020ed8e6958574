"""Demo data: three organisations that do not exist, and two weeks of what they might do."""
