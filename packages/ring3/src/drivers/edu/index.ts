export { type EduCompletion, EduDriver, type EduOptions } from "./driver.ts";
