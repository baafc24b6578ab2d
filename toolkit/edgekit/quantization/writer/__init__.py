"""Write a float graph in integers, with numpy alone.

float graph + ranges
  -> masks        values that a softmax is not to see, brought near those that it sees
  -> operators    the table: constraints of every operator
  -> precisions   which operators compute in integers, and why the others do not
  -> ends         which of them remain float for what one scale would cost at an end of the graph
  -> scales       parameters of every activation: own, shared or prescribed
  -> constants    codes of weights, biases and other constants
  -> emission     the new graph, with QUANTIZE and DEQUANTIZE where the precision changes
"""

from edgekit.quantization.writer.operators import OPERATORS, Operator
from edgekit.quantization.writer.write import Written, write_integers

__all__ = ["OPERATORS", "Operator", "Written", "write_integers"]
