"""What a person corrected: kept, approved, written as a dataset."""
