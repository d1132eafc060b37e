"""What does a run leave, and how is it opened again?"""
