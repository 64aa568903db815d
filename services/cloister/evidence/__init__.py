"""What an Attester says of itself, and what makes its quotes."""
