"""Quasi-Newton methods: secant pairs, inverse Hessians, and the steps that use them."""
