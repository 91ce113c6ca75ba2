"""The tab "Stiffness" in TensorBoard: what was measured, run beside run, step by step.

TensorBoard finds the plugin by itself once the package is installed. Data flows one way: files under the log
directory (``discovery``) → results (``store``) → what the page shows of them (``frames``, ``verdict``,
``payload``) → web (``routes``) → browser (``static``).
"""
