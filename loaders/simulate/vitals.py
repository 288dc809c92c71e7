"""Vital signs of a ward patient, as a nurse measures them."""

from dataclasses import dataclass
from random import Random

from loaders.simulate.hl7 import Observation

MG_PER_DL_PER_MMOL_PER_L = 18.0


@dataclass(frozen=True)
class Condition:
    """Usual values: °C, beats and breaths a minute, % saturation, mmHg, mg/dL, oxygen in L/min."""

    temperature: float = 36.8
    heart_rate: float = 76.0
    respiratory_rate: float = 15.0
    spo2: float = 97.0
    systolic: float = 122.0
    diastolic: float = 76.0
    glucose: float = 105.0
    consciousness: str = "Alert"
    oxygen: float = 0.0


CONDITIONS = (
    Condition(),
    Condition(temperature=38.7, heart_rate=104.0, respiratory_rate=20.0),
    Condition(glucose=228.0, systolic=138.0),
    Condition(spo2=88.0, respiratory_rate=24.0, oxygen=4.0, consciousness="A"),
    Condition(systolic=96.0, heart_rate=112.0, consciousness="Confusion"),
    Condition(temperature=36.5, heart_rate=68.0),
)
"""What is wrong with the patients, one after the other: nothing, fever, sugar, breath, shock, nothing."""

IMPLAUSIBLE = {
    "8867-4": Observation("8867-4", "Heart rate", "NM", "700", "/min"),
    "8310-5": Observation("8310-5", "Body temperature", "NM", "98.6", "Cel"),
}
"""Values that no patient has: a heart rate, and a temperature in °F that is said to be in °C."""


def measure(condition: Condition, rng: Random, *, fahrenheit: bool, mmol: bool) -> list[Observation]:
    """One round of all vital signs, in the units that this patient's ward uses."""

    def number(code: str, name: str, value: float, unit: str, decimals: int = 0) -> Observation:
        return Observation(code, name, "NM", f"{value:.{decimals}f}", unit)

    celsius = rng.gauss(condition.temperature, 0.2)
    glucose = max(60.0, rng.gauss(condition.glucose, 9.0))
    return [
        number("8310-5", "Body temperature", celsius * 1.8 + 32, "[degF]", 1)
        if fahrenheit
        else number("8310-5", "Body temperature", celsius, "Cel", 1),
        number("8867-4", "Heart rate", rng.gauss(condition.heart_rate, 4), "/min"),
        number("9279-1", "Respiratory rate", rng.gauss(condition.respiratory_rate, 1), "/min"),
        number("59408-5", "Oxygen saturation", min(100, rng.gauss(condition.spo2, 0.8)), "%"),
        number("8480-6", "Systolic blood pressure", rng.gauss(condition.systolic, 5), "mm[Hg]"),
        number("8462-4", "Diastolic blood pressure", rng.gauss(condition.diastolic, 4), "mm[Hg]"),
        number("2339-0", "Glucose", glucose / MG_PER_DL_PER_MMOL_PER_L, "mmol/L", 1)
        if mmol
        else number("2339-0", "Glucose", glucose, "mg/dL"),
        Observation("80288-4", "Level of consciousness", "ST", condition.consciousness, ""),
        number("3151-8", "Inhaled oxygen flow rate", condition.oxygen, "L/min"),
    ]
