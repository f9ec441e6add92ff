"""The dock: widgets declare and connect, what they do stands in the modules above."""
