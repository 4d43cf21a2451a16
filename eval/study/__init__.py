"""`tellmt study`: ways of training compared over budgets, amounts of general data and seeds."""
