// The form of a price: what is typed per million is shown per token at once. The server says the same when it is asked.
function exact(text, scale) {
  const shift = Math.log10(scale);
  const parts = /^(\d*)\.?(\d*)$/.exec(text.trim());
  if (!parts || !Number.isInteger(shift) || text.trim() === "") return "";
  const digits = parts[1].padStart(shift + 1, "0");
  const whole = digits.slice(0, digits.length - shift).replace(/^0+(?=\d)/, "");
  const places = (digits.slice(digits.length - shift) + parts[2]).replace(/0+$/, "");
  return places ? `${whole}.${places}` : whole;
}

for (const output of document.querySelectorAll(".cp-rate output")) {
  const input = document.getElementById(output.htmlFor);
  input?.addEventListener("input", () => {
    const rate = exact(input.value, Number(output.dataset.scale));
    output.value = rate ? `${rate} per ${output.dataset.one}` : "";
  });
}
