"""Keys are lent: who has which until when, what is withdrawn, and what workers hear of it."""
