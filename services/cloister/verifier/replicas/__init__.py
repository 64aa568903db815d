"""Several verifiers as one: challenges and members that they share through Redis, which none of them trusts."""
