"""The contract between the writers and the readers of MLflow: names in the record, and how MLflow is asked.

It may import only MLflow. It is what `sweeper` may import of `analysis`, apart from `analysis.claims` for replication.
"""
