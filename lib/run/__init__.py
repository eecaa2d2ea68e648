"""Computes missing records: trains and evaluates models and measures data sets, in several processes side by side."""
